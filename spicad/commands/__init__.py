"""The sub-commands of `spica`, one file each."""
