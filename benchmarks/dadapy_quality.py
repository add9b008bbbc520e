"""DADApy's information imbalance and neighbourhood overlap of the maps in an npz file, as JSON.

DADApy needs NumPy 1, so it has a Python of its own; ``latent_map.py --dadapy PYTHON`` runs this file there.
"""

import json
import sys

import numpy as np
from dadapy import MetricComparisons

NEIGHBOURS = 30

with np.load(sys.argv[1]) as file:
    maps = {name: file[name].astype(float) for name in file.files}
description = maps.pop("description")
found = {}
for name, z in maps.items():
    both = MetricComparisons(coordinates=np.hstack([z, description]), maxk=len(z) - 1, n_jobs=1)
    own, rest = list(range(z.shape[1])), list(range(z.shape[1], z.shape[1] + description.shape[1]))
    imbalance = both.return_inf_imb_two_selected_coords(own, rest, k=1)[0]
    whole = MetricComparisons(coordinates=description, maxk=len(z) - 1, n_jobs=1)
    found[name] = {
        "imbalance": float(imbalance),
        "overlap": float(whole.return_data_overlap(coordinates=z, k=NEIGHBOURS)),
    }
print(json.dumps(found))
