// deja.py as bytes.
        .section .rodata
        .global deja_gdb_commands, deja_gdb_commands_end
deja_gdb_commands:
        .incbin DEJA_GDB_COMMANDS
deja_gdb_commands_end:
        .section .note.GNU-stack, "", @progbits
