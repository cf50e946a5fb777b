// What nearly every unit includes, compiled once: the standard library's larger headers, fmt and base/. A
// unit still includes what it uses: tests/check_layers.py reads those lines, and so do people.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/printable.h"
#include "base/result.h"
#include "base/types.h"
