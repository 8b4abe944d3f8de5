"""Reads rows from the data cache of the Kubeflow Trainer stack."""

from .client import Client, CacheError, ChangedPlan
from .dataset import DataCacheDataset

__all__ = ["CacheError", "ChangedPlan", "Client", "DataCacheDataset"]
