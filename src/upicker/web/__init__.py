"""The page: one small server that shows micrographs for labelling and inspecting."""
