"""Records of what operators ask for: approvals, pauses and other control, bulk operations."""
