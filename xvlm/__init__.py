"""X-VLM (Zeng et al., 2022), rebuilt; its models, its launcher and its EPIC patch."""
