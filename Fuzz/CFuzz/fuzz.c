// A C target needs one source; its header is all there is to it.
#include "fuzz.h"
