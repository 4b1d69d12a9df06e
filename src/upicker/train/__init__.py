"""Training: one loop for both stages, pretraining on proposals and fine-tuning on labels. Imports torch."""
