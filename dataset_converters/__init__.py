"""Converts raw reviews into RecBole's atomic files and a review file, one module a source."""
