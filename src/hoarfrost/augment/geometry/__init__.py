"""Where the pixels of a view lie in its source, where a map's cells lie on the image, and features moved by both."""
