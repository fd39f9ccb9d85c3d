"""Running a user's model without changing it: its arguments, a clone of its modules, and what puts all back."""
