"""Settings under which the sample's oracle takes every step."""

ORACLE = {"use_gpu": False, "student": "oracle", "store_path": "recommender.sqlite"}
