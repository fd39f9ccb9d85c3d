"""What runs a user's model without changing it: its arguments, a clone of its modules, and putting things back."""
