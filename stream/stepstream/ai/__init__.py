"""Language models and agents as durable steps, for the packages of the extra `stepstream[ai]`."""
