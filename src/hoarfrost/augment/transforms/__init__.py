"""The single augmentations, on images and on features, and what they are drawn from and described by."""
