"""Texts of users and for users: names, durations, what may be printed, and how lists and counts are worded."""
