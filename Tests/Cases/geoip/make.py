#!/usr/bin/env python3
#  Writes city.mmdb anew, byte for byte: one made-up network in MaxMind's format, with a fixed date. It needs the package
#  mmdb_writer of script/test-requirements.txt, which script/test installs in .venv:
#
#    .venv/bin/python3 Tests/Cases/geoip/make.py

import pathlib
import time

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BUILD_EPOCH = 1795614295

if __name__ == "__main__":
    time.time = lambda: BUILD_EPOCH
    writer = MMDBWriter(4, "GeoLite2-City", languages=["en"], description="One city, for an example")
    writer.insert_network(IPSet(["203.0.113.0/24"]), {
        "city": {"names": {"en": "Oulu"}},
        "country": {"iso_code": "FI", "names": {"en": "Finland"}},
        "location": {"latitude": 65.01, "longitude": 25.47, "time_zone": "Europe/Helsinki"},
    })
    writer.to_db_file(str(pathlib.Path(__file__).with_name("city.mmdb")))
