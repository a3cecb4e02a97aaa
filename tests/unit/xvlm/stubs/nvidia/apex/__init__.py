"""The interface of NVIDIA's apex that pre-training uses; it computes in float32, on any device, and notes its calls."""
