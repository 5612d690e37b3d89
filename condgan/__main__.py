from condgan.cli import main

main()
