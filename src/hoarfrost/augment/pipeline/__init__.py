"""A user's torchvision transform as steps whose decisions are drawn beforehand, and run on batches."""
