"""EPIC, the method: saliency masking, masked-LM generation and image-token consistency."""
