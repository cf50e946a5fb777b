// What a guest says of itself as text for people, as ps, lsmod and ldd would list it.
#pragma once

#include <string>
#include <vector>

#include "linux/guest_images.h"
#include "linux/modules.h"
#include "linux/tasks.h"

namespace deja {

// Each has a line for each, in the order given; those of tasks and modules begin with a line of headings.
std::string list_tasks(const std::vector<GuestTask>& tasks);
std::string list_modules(const std::vector<GuestModule>& modules);
// "NAME BUILD-ID .text=0xADDRESS …", with "-" for a module that has no build-id.
std::string list_sections(const std::vector<GuestModule>& modules);
// "BASE LINKED-AT BUILD-ID", likewise.
std::string list_images(const std::vector<GuestImage>& images);

// "a,b,c"
std::string joined(const std::vector<std::string>& names);

}  // namespace deja
