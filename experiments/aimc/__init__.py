"""Results on the realistic crossbar: direct mapping, hardware-aware training, blocks, sensitivity."""
