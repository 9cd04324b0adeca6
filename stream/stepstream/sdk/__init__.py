"""What users write functions with; it speaks the contract and never imports the engine."""
