"""Output of img2dataset in three of its formats: folders of files, tar shards (webdataset), Parquet shards."""
