"""Every row of the paper's tables and every panel of its figures: what to run, running it, and what came of it."""
