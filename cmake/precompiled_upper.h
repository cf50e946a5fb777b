// For the layers above the machine, which nearly all include these too.
#pragma once

#include "eventlog/recording.h"
#include "machine/machine.h"
#include "precompiled.h"
