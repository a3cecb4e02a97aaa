"""f_L, the masked language model that fills in: loading it, fitting one to captions, small ones for a CPU."""
