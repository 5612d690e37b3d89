from condgan.app.cli.main import main

main()
