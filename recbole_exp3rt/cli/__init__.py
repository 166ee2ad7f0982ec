"""The commands of `exp3rt`, one file each. Heavy libraries are imported inside a command."""
