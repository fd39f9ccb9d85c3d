"""The places where a model can be divided, judged by its traces, and which of them are recommended."""
