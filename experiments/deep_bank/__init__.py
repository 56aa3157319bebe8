"""The ranking by the bank on all sixteen sites of VGG-16."""
