"""What a conversion to either format says of itself: what it left out, how far it is, what it wrote."""
