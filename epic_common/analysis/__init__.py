"""What the paper's figures look into."""
