"""What conversions to both formats share: the count of what is left out, the progress, the summary at the end."""
