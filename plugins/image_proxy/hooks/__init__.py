"""Hooks, a module each: a task that only asks the catalog does not import boto3, a quarter of a second of CPU."""
