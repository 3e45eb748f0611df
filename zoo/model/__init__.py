"""An encoder and a readout as one model, its checkpoint, and the embeddings that are computed once."""
