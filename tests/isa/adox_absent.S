# cpu: x86-64-v3,+sha-ni
# native: no
# in:  rax=1 rbx=2
# out: rax=1 rbx=2 fault=6 rip=10000000
adox %rbx, %rax
