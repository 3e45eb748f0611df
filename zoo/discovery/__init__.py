"""Discovery: screen candidates with a trained ensemble, and choose those that are worth a calculation."""
