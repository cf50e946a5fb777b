# Writes what the program in DEJA says of its command line to the directory OUT: man1/, and completion for three shells.
function(write_reference file)
  execute_process(COMMAND ${DEJA} help ${ARGN} OUTPUT_FILE ${OUT}/${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${OUT})
file(MAKE_DIRECTORY ${OUT}/man1)
write_reference(deja --as bash)
write_reference(_deja --as zsh)
write_reference(deja.fish --as fish)
write_reference(man1/deja.1 --as man)
# The overview lists every verb as ".BR deja\-VERB (1)".
file(STRINGS ${OUT}/man1/deja.1 lines REGEX "^\\.BR deja")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^\\.BR deja\\\\-(.*) \\(1\\)$" "\\1" verb "${line}")
  string(REPLACE "\\-" "-" verb "${verb}")
  write_reference(man1/deja-${verb}.1 --as man ${verb})
endforeach()
file(TOUCH ${OUT}/done)
