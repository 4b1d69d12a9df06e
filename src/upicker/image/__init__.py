"""Array -> array: repair, Fourier cropping to the working scale, filters, the contamination mask."""
