"""The passes from recorded operations to a plan, one a file; none knows a processor."""
