"""Results on deep networks: collapse with depth, recovery by training, blocks, digital layers."""
