// The one place where events act on the machine; a recorder and a replay must do the same at the same step.
#pragma once

#include "eventlog/events.h"
#include "machine/machine.h"

namespace deja {

// Lets everything happen that is due at the present step, without a step more. A recorder has often done that
// already when an event comes, and a replay has not; so both do it before every event.
void bring_to_rest(Machine& machine);

// Applies an input at the machine's present step. Events that do not reach the machine do nothing.
void apply_event(Machine& machine, const EventBody& body);

}  // namespace deja
