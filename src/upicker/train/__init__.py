"""Training: one loop for pretraining on proposals, fine-tuning on labels and training over many sets. Imports torch."""
