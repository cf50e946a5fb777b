// The symbols at which writes happened.
#pragma once

#include <vector>

#include "linux/guest_symbols.h"
#include "query/who_wrote.h"
#include "timeline/navigator.h"

namespace deja {

// Fills in Write::symbol, as far as `symbols` know. Leaves the machine anywhere.
Status name_writes(Navigator& nav, GuestSymbols& symbols, std::vector<Write>* writes);

}  // namespace deja
