// The bytecode in which gdb sends the conditions of breakpoints (GDB manual, appendix F: agent expressions).
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "base/types.h"

namespace deja {

struct AgentContext {
  std::function<bool(u64 number, u64* value)> reg;
  std::function<bool(u64 address, void* out, unsigned size)> memory;
};

// The value that the expression leaves on its stack. Nothing: it cannot be evaluated (memory that is not
// mapped, a division by zero, an operation of tracepoints, code that makes no sense or does not end).
std::optional<u64> evaluate_agent_expression(std::string_view code, const AgentContext& context);

}  // namespace deja
