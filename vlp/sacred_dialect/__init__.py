"""The launchers of METER and ViLT: sacred, ``loss_names``, Arrow tables. Ends in the settings of the engine."""
