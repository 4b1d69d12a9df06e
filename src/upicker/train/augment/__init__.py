"""Augmentation: `geometric` (where things are), `composing` (what is in the picture), `photometric` (how it looks).

All of it is numpy and OpenCV on one picture at the working scale, background about 0 and robust sigma about 1; where
a picture is exactly 0, there is nothing to see (the mask blanked it, or it ends there). `online` puts the parts
together as `upicker.config` says.
"""
