"""A model's two parts, made at a cut and verified; how a forward is stopped there, and taken up again."""
