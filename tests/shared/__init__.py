"""What tests of several wings share: nets, images, a plain training loop, freezers, sources of features, scripts."""
