/* SPDX-License-Identifier: MIT */
/*
 * Planted faults: `meson configure -Dplant=NAME` builds the library with one
 * fault of docs/testing.md put back in, so that the test which is named after
 * the fault can be seen to fail. PLANTED() is a compile-time constant; a
 * normal build (-Dplant=none) contains none of the faulty code.
 *
 * Include this file only where a plant stands: it is rebuilt for each plant.
 */
#ifndef FIRN_UTIL_PLANT_H
#define FIRN_UTIL_PLANT_H

#include "firn-plant.h" /* made by meson: FIRN_PLANT_<NAME> is 1 or 0 */

#define PLANTED(name) (FIRN_PLANT_##name)

#endif
