"""The dialect of ALBEF and X-VLM: YAML files, torchrun, epochs; it ends in the settings of the shared engine."""
