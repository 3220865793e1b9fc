"""The ledger of a batch: scenes, claims, watermarks, in a database."""
