"""Language models and agents as durable steps, for the packages of extras such as `stepstream[ai]`."""
